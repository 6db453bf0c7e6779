#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::engine_faults::Input| fuzz::targets::engine_faults::run(
    input
));
