//! The cache without a runtime of your own.
//!
//! Run with `cargo run --example blocking`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use twotier::{Cache, MemoryBackend, blocking};

fn main() -> Result<(), twotier::Error> {
    let builder = Cache::<u64>::builder().namespace("squares").time_to_live(Duration::from_secs(60));
    let squares = blocking::Cache::build(builder, MemoryBackend::new())?;
    for number in [12_u64, 12, 13] {
        let square = squares.get_or_load(&number.to_string(), |_| Ok::<_, std::io::Error>(number * number))?;
        println!("{number} squared is {square}");
    }
    println!("{}", squares.stats());
    Ok(())
}
