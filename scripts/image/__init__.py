"""The container image: base, build, bill of materials, vulnerabilities, hardening, registry."""
