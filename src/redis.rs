//! Durable dispatch and a shared watch on Redis.

#![allow(dead_code, unused_imports, reason = "the parts that use it follow")]

mod calls;
mod layout;
mod link;
mod reply;
