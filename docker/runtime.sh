#!/bin/sh
# Copy Python and the libraries that it loads out of their packages into an empty root, given as $1, without what
# a service never uses: other languages' encodings for C programs, tests, tools for a developer at a prompt.
set -eu
root=$1
packages="ca-certificates libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.13-minimal
    libpython3.13-stdlib libsqlite3-0 libssl3t64 libuuid1 libzstd1 python3.13-minimal zlib1g"

mkdir -p "$root/usr/bin" "$root/usr/lib64" "$root/etc/ssl/certs" "$root/var/lib/dpkg/status.d" "$root/tmp"
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
chmod 1777 "$root/tmp"

# What a package's files are is the package's own list; its record is kept for scanners, its licence for people.
for package in $packages; do
    dpkg -L "$package" | sed -n -E \
        -e 's#^/(lib|lib64)/#/usr/\1/#' \
        -e '/\/__pycache__/d' \
        -e '\#/(gconv|engines-3|ossl-modules|audit)(/|$)#d' \
        -e '\#/lib(mvec|nsl|thread_db|memusage|pcprofile|c_malloc_debug|anl|BrokenLocale|nss_compat|nss_hesiod|expatw)[.-]#d' \
        -e '\#/python3\.13/(test|pydoc_data|idlelib|turtledemo|tkinter|ensurepip|venv|curses|_pyrepl|xmlrpc|__phello__)(/|$)#d' \
        -e '\#/python3\.13/(turtle|pydoc|doctest|trace|this|antigravity|mailbox|imaplib|poplib|webbrowser|_pydecimal|_pydatetime|_pyio|_aix_support|_ios_support|_android_support|_apple_support|sre_.*|tabnanny|pyclbr|zipapp|pickletools)\.py$#d' \
        -e '\#/lib-dynload/(_test|_xx|xx|_codecs_|_curses|readline|_dbm|_gdbm|_tkinter|_lsprof|_crypt|ossaudiodev)#d' \
        -e '\#/encodings/(big5|cp[0-9]+|cp_|euc_|gb|hp_|hz|iso2022|iso8859_([2-9]|1[0-9])|johab|koi8|kz|mac_|palmos|ptcp|shift|tis_|quopri|rot_13|uu_|bz2|oem|mbcs)#{\#/(cp437|cp1252)\.#!d}' \
        -e '\#^/usr/(bin/python3\.13|lib/|lib64/|share/doc/[^/]+/copyright$)#p' \
        > /tmp/list
    while read -r path; do
        if [ -L "$path" ] || [ -f "$path" ]; then echo "$path"; fi
    done < /tmp/list | tar -C / -cf - --files-from=- 2>/dev/null | tar -C "$root" -xf -
    { dpkg -s "$package"; echo; } > "$root/var/lib/dpkg/status.d/$package"
done

ln -s python3.13 "$root/usr/bin/python3"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp /usr/lib/os-release "$root/usr/lib/"
ln -s ../usr/lib/os-release "$root/etc/os-release"
cp /etc/debian_version "$root/etc/"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/usr/sbin/nologin\nslipway:x:10001:10001:slipway:/data:/usr/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nslipway:x:10001:\n' > "$root/etc/group"

chmod -R u=rwX,go=rX "$root/usr" "$root/etc"
python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash -s "$root" -p / "$root/usr/lib/python3.13"
find "$root" -exec touch --no-dereference --date=@0 {} +
