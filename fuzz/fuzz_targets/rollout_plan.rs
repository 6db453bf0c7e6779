#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::rollout_plan::Input| fuzz::targets::rollout_plan::run(
    input
));
