//! The scripts of all steps. They are inputs like any other, so they are a value.

/// The scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipes {
    /// A Debian tree.
    pub make_tree: &'static str,
    /// The first half of a role's root.
    pub stage_role: &'static str,
    /// The second half.
    pub install_role: &'static str,
    /// A role's partitions.
    pub pack_role: &'static str,
    /// Kernel and modules.
    pub pack_boot: &'static str,
    /// A server's disk.
    pub pack_host: &'static str,
}

impl Default for Recipes {
    fn default() -> Self {
        Self {
            make_tree: include_str!("recipes/make-tree.sh"),
            stage_role: include_str!("recipes/stage-role.sh"),
            install_role: include_str!("recipes/install-role.sh"),
            pack_role: include_str!("recipes/pack-role.sh"),
            pack_boot: include_str!("recipes/pack-boot.sh"),
            pack_host: include_str!("recipes/pack-host.sh"),
        }
    }
}
