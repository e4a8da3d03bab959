//! Virtual routers of every kind on the wire: what a node advertises, announces and joins, whom it believes, and when it is silent.

mod addresses;
mod adverts;
mod backup;
mod groups;
mod lone;
