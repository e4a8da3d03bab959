# Takes the kernel and the modules of the first program out of the base. Runs in the tools tree.
# $1: root of the base; $2: working directory; the rest: modules in load order, below the kernel's module directory
base=$1 work=$2
shift 2
cp "$base"/boot/vmlinuz-* "$work/vmlinuz"
cp "$base/usr/lib/os-release" "$work/os-release"
mkdir "$work/modules"
for module; do
    name=${module##*/}
    case $module in
        *.xz) xz -dc "$base/$module" > "$work/modules/${name%.xz}" ;;
        *.zst) zstd -qdc "$base/$module" > "$work/modules/${name%.zst}" ;;
        *) cp "$base/$module" "$work/modules/$name" ;;
    esac
done
