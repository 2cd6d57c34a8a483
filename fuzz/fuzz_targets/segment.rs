//! See `forebay_fuzz::segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| forebay_fuzz::segment::check(input));
