#!/bin/sh
# The system libraries that the optional renderers load: OpenGL without a display (gl), and what bpy links to (cycles).
# Installs those that are missing where apt-get is there and may; else says which.
set -eu
missing=""
has() { ldconfig -p 2>/dev/null | grep -q "$1"; }
for pair in libEGL.so.1:libegl1 libGL.so.1:libgl1 libXrender.so.1:libxrender1 libX11.so.6:libx11-6 libXfixes.so.3:libxfixes3 \
    libXi.so.6:libxi6 libxkbcommon.so.0:libxkbcommon0 libSM.so.6:libsm6; do
    has "${pair%%:*}" || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "the renderers gl and cycles want system libraries that are missing: apt-get install$missing" >&2
fi
