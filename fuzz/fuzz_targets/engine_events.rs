#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::engine_events::Input| fuzz::targets::engine_events::run(
    input
));
