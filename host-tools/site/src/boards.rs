//! The boards that exist, as far as a site file needs to know them.

/// One kind of appliance hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Folder name under `boards/`.
    pub name: String,
    /// Number of network ports: one (a VLAN trunk) or two (wan and lan).
    pub ports: u8,
}

/// All boards that a site file may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boards(Vec<Board>);

impl Boards {
    /// The boards with these names and numbers of ports.
    pub fn new<N: Into<String>>(boards: impl IntoIterator<Item = (N, u8)>) -> Self {
        Self(
            boards
                .into_iter()
                .map(|(name, ports)| Board {
                    name: name.into(),
                    ports,
                })
                .collect(),
        )
    }

    /// The board of this name.
    pub fn get(&self, name: &str) -> Option<&Board> {
        self.0.iter().find(|board| board.name == name)
    }

    /// All names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|board| board.name.as_str())
    }
}

impl Board {
    /// Whether all networks share one cable as tagged VLANs.
    pub fn is_trunk(&self) -> bool {
        self.ports < 2
    }
}
