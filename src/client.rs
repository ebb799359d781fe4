//! The other side of a [`Server`](crate::server::Server): a connection that is made again, and a verdict when the
//! server is gone.
//!
//! A [`Client`] connects to `tcp://host:port` or `ws://host:port/path`, or to `tcps://` or `wss://` with the feature
//! `tls`, with the codecs and the wire format of a server. It pings a silent server, and judges it to be offline after
//! a number of pings without an answer, at an exact time. It then connects again, with waits that are random and grow.
//! What is sent meanwhile waits in a queue with limits.
//!
#![cfg_attr(feature = "json", doc = "```")]
#![cfg_attr(not(feature = "json"), doc = "```ignore")]
//! use std::time::Duration;
//! use liveness::client::Client;
//! use liveness::server::{Json, Server};
//!
//! let server = Server::<Json, ()>::builder()
//!     .tcp("127.0.0.1:0")
//!     .on_request("Double", |_, number: u32| Ok(number.saturating_mul(2)))
//!     .start()?;
//!
//! let client = Client::<Json>::builder(format!("tcp://{}", server.local_addrs()[0]))
//!     .unanswered(Duration::from_secs(2), 3) // offline 8 seconds after the last byte
//!     .greet(|greeting| {
//!         greeting.send("Hello", &"from the client"); // first on each connection
//!     })
//!     .on("News", |_, news: String| println!("{news}"))
//!     .state(|_, state| println!("{state}"))
//!     .start()?;
//! let doubled: u32 = client.request("Double", &21, Duration::from_secs(5))?;
//! assert_eq!(doubled, 42);
//! assert!(client.close_timeout(Duration::from_secs(5)));
//! assert!(client.stats().is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One thread owns the sockets of all clients of a process, four run their handlers, and one looks names up. They start
//! with the first client, and end with the last one. The module `connecting` of this documentation describes states,
//! races and times.

mod address;
mod builder;
mod course;
mod error;
mod greeting;
mod handle;
mod job;
mod line;
mod link;
mod reactor;
mod shared;
mod state;
mod stats;
#[cfg(feature = "tls")]
mod trust;

pub use builder::ClientBuilder;
pub use error::StartError;
pub use greeting::Greeting;
pub use handle::Client;
pub use shared::WhenFull;
pub use state::{ClosedBy, LinkError, State};
pub use stats::ClientStats;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use trust::Trust;
