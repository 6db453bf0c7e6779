//! Makes the program begin with its own first instruction instead of the runtime's.

fn main() {
    println!("cargo::rustc-link-arg-bins=--entry=entry_state");
}
