#!/usr/bin/env bash
# Boot Debian arm64 in qemu-system-aarch64 and run a part of semtrace's tests in it. By hand, not in CI: an emulated
# processor takes some twenty times as long.
#
#   tests/vm/arm64.sh FOLDER [COMMAND…]     FOLDER keeps what was downloaded; COMMAND replaces what is run inside
#
# Needs qemu-system-arm, cpio, apt with a Debian mirror, and a virtual environment of this clone in .venv, whose
# packages of pure Python are taken along. All lies in the memory of the machine: it has no disk and no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mkdir -p "$1" && cd "$1" && pwd)
shift
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$codename" '$1 == release { print $2; exit }')
python=python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# apt-get for arm64 with folders of its own.
apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State="$work/state" \
        -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=/dev/null -o Debug::NoLocking=1 \
        -o APT::Install-Recommends=0 -o APT::Sandbox::User=root "$@" </dev/null
}

fetch() {
    mkdir -p "$work"/{state,lists/partial,cache/archives/partial,kernel,root}
    : >"$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $codename main" >"$work/sources"
    apt update
    apt -d install busybox-static "$python-minimal" "lib$python-stdlib" python3-psutil python3-hypothesis libc-bin
    for file in "$work"/cache/archives/*.deb; do dpkg-deb -x "$file" "$work/root"; done
    kernel=$(apt -s install linux-image-arm64 | awk '/^Inst linux-image-[0-9]/ { print $2; exit }')
    (cd "$work/kernel" && apt download "$kernel" && dpkg-deb -x linux-image-*.deb .)
}

[ -e "$work/fetched" ] || { fetch && touch "$work/fetched"; }

# The tree that becomes the first file system: Debian's packages, this clone, and pytest with what it needs.
root=$work/root
rm -rf "$root/clone" "$root/site"
mkdir -p "$root"/{proc,sys,dev,tmp,clone,site}
git archive HEAD | tar -x -C "$root/clone"
for each in .venv/lib/"$python"/site-packages/*; do
    case ${each##*/} in psutil* | hypothesis* | _hypothesis* | sortedcontainers* | *gevent* | *greenlet* | mypy* | ruff* | *.pth | selenium* | py_spy*) ;; *)
        [ -z "$(find "$each" -name '*.so' -print -quit)" ] && cp -r "$each" "$root/site" ;;
    esac
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox mkdir -p /bin /usr/bin /dev/shm /etc
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts; ip link set lo up
ln -sf /usr/bin/$python /usr/bin/python3
echo 'root:x:0:0::/:/bin/sh' >/etc/passwd; echo '127.0.0.1 localhost' >/etc/hosts
export PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPATH=/site:/clone/src:/usr/lib/python3/dist-packages
cd /clone; uname -a
${*:-python3 -m pytest -q -p no:cacheprovider -m "'not slow'" tests/unit}
echo "semtrace: ended with \$?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
exec qemu-system-aarch64 -machine virt -cpu "${SEMTRACE_CPU:-cortex-a72}" -smp 2 -m 3G -nographic -nic none -no-reboot \
    -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd.gz" -append "console=ttyAMA0 quiet panic=-1 rdinit=/init"
