#!/bin/sh
# Cut what no service uses from the dependencies in the root given as $1, and byte-compile them.
set -eu
packages=$1/usr/local/lib/python3.13/dist-packages

for part in bin sqlalchemy/testing alembic/testing alembic/templates; do
    rm -rf "${packages:?}/$part"
done
find "$packages" \( -name tests -o -name __pycache__ \) -type d -prune -exec rm -rf {} +
find "$packages" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.pyi' \) -delete
find "$packages" -name '*.so' -exec strip --strip-unneeded {} +
python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash -s "$1" -p / "$packages"
chmod -R u=rwX,go=rX "$1"
find "$1" -exec touch --no-dereference --date=@0 {} +
