//! The cache without a runtime of your own.
//!
//! Run with `cargo run --example blocking`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{thread, time::Duration};

use twotier::{Error, MemoryBackend, blocking::Cache};

fn main() -> Result<(), Error> {
    let store = MemoryBackend::new();
    let minute = Duration::from_secs(60);
    let squares = Cache::build(Cache::<u64>::builder().namespace("squares").time_to_live(minute), store.clone())?;
    let cubes = Cache::build(Cache::<u64>::builder().namespace("cubes").time_to_live(minute), store)?;
    thread::scope(|scope| {
        for number in [12_u64, 12, 13] {
            let (squares, cubes) = (&squares, &cubes);
            scope.spawn(move || {
                // A loader may block, and use other caches.
                let cube = cubes.get_or_load(number, |number| {
                    let square = squares.get_or_load(number, |number| Ok::<_, Error>(number * number))?;
                    Ok::<_, Error>(*square * number)
                });
                println!("{number} cubed is {cube:?}");
            });
        }
    });
    println!("{}", squares.stats());
    Ok(())
}
