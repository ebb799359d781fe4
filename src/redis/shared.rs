//! A watch that processes share.

pub(crate) mod counts;
pub(crate) mod layout;
pub(crate) mod report;
pub(crate) mod script;
