//! The fuzzer's way into a server's session.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = liveness::server::fuzz(data);
});
