//! Durable dispatch and a shared watch on Redis.

#![expect(dead_code, reason = "the parts that use it follow")]

mod link;
mod reply;
