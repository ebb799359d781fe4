mod bad_input;
mod client;
mod closing;
mod held;
mod keepalive;
mod memory;
mod model;
mod writing;

use std::time::Duration;

use super::super::codec::json::Json;
use super::super::framing::Framing;
use super::super::keepalive::{Alive, Keepalive, Ping};
use super::super::limits::{Excess, Limits, Overflow, Rate};
use super::super::websocket::{masked, unmasked};
use super::super::{Cause, Closed};
use super::Settings;
use super::driver::{ANSWER, Driver, REQUEST, at};

const S: Duration = Duration::from_secs(1);
const NS: Duration = Duration::from_nanos(1);

/// Returns the settings of hotpot.
fn hotpot() -> Settings {
    Settings {
        keepalive: Keepalive::hotpot(),
        ..Settings::default()
    }
}

/// Returns a text frame of a client.
fn text(message: &str) -> Vec<u8> {
    masked(0x81, message.as_bytes())
}

/// Returns a message with a length of 2 bytes.
fn delimited(message: &str) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message.as_bytes()].concat()
}

/// Returns the report of the end.
fn closed(driver: &Driver<Json>) -> &Closed {
    driver.closed.as_ref().expect("the session has ended")
}

/// The bytes of `Ping` on TCP.
const TCP_PING: &[u8] = b"\0\x19{\"type\":\"Ping\",\"data\":{}}";

/// The bytes of `Pong` on TCP.
const TCP_PONG: &[u8] = b"\0\x19{\"type\":\"Pong\",\"data\":{}}";
