//! error[E0277]: `f64` is not a key of a cache
//! = note: keys are strings, integers, `Uuid` (feature `uuid`), and tuples of up to 4 of these

fn reads(cache: &twotier::Cache<String>) {
    let _ = cache.get(1.5_f64);
}

fn main() {}
