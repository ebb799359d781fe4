//! What the parts of a program count, for Prometheus and for people.
//!
//! An [`Observer`] knows watchers, registries, pacemakers, dispatchers, servers, clients and groups by name. It is a
//! [`Collector`](prometheus_client::collector::Collector) for a registry of the `prometheus-client` crate, and
//! [renders](Observer::render) the text itself for programs that have no such registry. With the features `server` and
//! `json`, `Page` serves it, and shows everything live.
//!
//! ```
//! use std::sync::Arc;
//! use liveness::{Watcher, observe::Observer};
//!
//! let sessions = Arc::new(Watcher::<u64>::builder().build()?);
//! sessions.beat_many(0..3)?;
//! sessions.flush()?;
//!
//! let observer = Observer::new();
//! observer.watcher("sessions", &sessions);
//! let text = observer.render();
//! assert!(text.contains("\nliveness_watcher_keys{name=\"sessions\",state=\"up\"} 3.0\n"));
//! assert!(text.contains("\nliveness_watcher_beats_total{name=\"sessions\",result=\"applied\"} 3\n"));
//!
//! let mut registry = prometheus_client::registry::Registry::default(); // the program's own
//! registry.register_collector(Box::new(observer.clone()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The module `observing` of this documentation explains each metric, and which alerts to set.

mod families;
mod measure;
mod metrics;
mod observer;
#[cfg(all(feature = "server", feature = "json"))]
mod page;
mod sources;
mod stories;

pub use observer::Observer;
#[cfg(all(feature = "server", feature = "json"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "server", feature = "json"))))]
pub use page::{Page, PageBuilder};

/// The `Content-Type` of what [`Observer::render`] returns.
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
