//! What runs on the strand of a connection.

use super::close::Closed;
use super::codec::RequestId;
use super::http::Request;

/// What runs on the strand of an agent.
#[derive(Debug)]
pub(crate) enum Job {
    /// Decide about an upgrade request.
    Authorize(Box<Request>),
    /// Answer a request for a page.
    Page(Box<Request>),
    /// Report that the connection is open.
    Opened,
    /// Call the handler of a route with a body.
    Message(Target, Box<[u8]>, Option<RequestId>),
    /// Report that the connection has ended.
    Closed(Box<Closed>),
}

/// What a message is for.
#[derive(Debug)]
pub(crate) enum Target {
    /// The route of the server with this index.
    Route(usize),
    /// No route of the server, but perhaps one of a group that has this name.
    Other(Box<str>),
}
