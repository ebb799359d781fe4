//! Metrics, the HTTP endpoints and the live page, from outside.

mod kit;
mod metrics;
mod page;
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]
#[path = "../support/redis_server.rs"]
mod redis_server;
