//! Parts of a server that runs on plain OS threads.

pub mod group;

pub use group::Group;
