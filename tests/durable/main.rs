//! What is kept in Redis, on a real server.

#![expect(
    clippy::items_after_statements,
    reason = "a topic is declared where it is used"
)]

#[expect(unreachable_pub, reason = "an example shares it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]
#[path = "../support/redis_server.rs"]
mod redis_server;

mod clocks;
#[path = "../support/conformance/suite.rs"]
mod conformance;
mod conforming;
mod crew;
mod dispatching;
mod isolation;
mod killing;
mod many;
mod outages;
mod shared_watch;
mod shared_watch_faults;
mod stopping;
mod suspension;
mod tap;
