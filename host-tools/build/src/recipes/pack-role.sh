# Turns a role's root into partitions. Runs in the tools tree.
# $1: working directory; $2: UUID; $3: salt; $4: size of /var
work=$1 uuid=$2 salt=$3 var_size=$4
cd "$work"
mkfs.erofs --quiet -zlz4 "-T$SOURCE_DATE_EPOCH" "-U$uuid" '--exclude-regex=^(boot|var|cache)/' root.erofs root
veritysetup format --salt="$salt" --uuid="$uuid" --root-hash-file=root.hash root.erofs root.verity
mke2fs -q -t ext4 -b 4096 -L var -U "$uuid" -d root/var \
    -E "hash_seed=$uuid,lazy_itable_init=1,root_owner=0:0" var.ext4 "$var_size"
rm -rf files debs
sync -f "$work"
