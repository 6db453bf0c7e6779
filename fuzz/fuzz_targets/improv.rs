#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::improv::Input| fuzz::targets::improv::run(input));
