//! The scripts of all steps. They are inputs like any other, so they are a value.

/// The scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipes {
    /// A Debian tree.
    pub make_tree: &'static str,
    /// What mmdebstrap is told for it.
    pub tree_options: &'static [&'static str],
    /// The first half of a role's root.
    pub stage_role: &'static str,
    /// The second half.
    pub install_role: &'static str,
    /// A role's partitions.
    pub pack_role: &'static str,
    /// Kernel and modules.
    pub pack_boot: &'static str,
    /// A site's key for Secure Boot.
    pub make_boot_keys: &'static str,
    /// A role's disk.
    pub pack_image: &'static str,
}

impl Default for Recipes {
    fn default() -> Self {
        Self {
            make_tree: include_str!("recipes/make-tree.sh"),
            tree_options: TREE_OPTIONS,
            stage_role: include_str!("recipes/stage-role.sh"),
            install_role: include_str!("recipes/install-role.sh"),
            pack_role: include_str!("recipes/pack-role.sh"),
            pack_boot: include_str!("recipes/pack-boot.sh"),
            make_boot_keys: include_str!("recipes/make-boot-keys.sh"),
            pack_image: include_str!("recipes/pack-image.sh"),
        }
    }
}

const TREE_OPTIONS: &[&str] = &[
    // Essential packages and apt; all others are named.
    "--variant=apt",
    "--format=tar",
    // Device nodes cannot be made in a user namespace, and no image needs them.
    "--skip=output/dev",
    "--aptopt=Acquire::Languages \"none\"",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/lintian/*",
];
