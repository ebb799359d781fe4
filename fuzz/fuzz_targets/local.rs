//! The fuzzer's way into the machine.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    liveness_fuzz::run(data);
});
