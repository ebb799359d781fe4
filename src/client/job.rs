//! What runs on the handler threads.

use std::sync::Arc;

use super::state::State;
use crate::server::codec::RequestId;

/// The number of a connection of a client.
pub(super) type Epoch = u64;

/// A request that is to be answered: its number, and the connection that it came over.
pub(super) type Asked = (RequestId, Epoch);

/// What runs on the strand of a client.
pub(super) enum Job {
    /// Report a state.
    State(State),
    /// Call the handler of a route.
    Message(Arc<str>, Box<[u8]>, Option<Asked>),
}
