//! error[E0277]: a loader of a `Cache<String>` does not return `u64`
//! = note: a loader returns `Ok` of `String`, `Arc<String>`, `(String, Duration)`, `Option<String>` or `Loaded<String>`

async fn loads(cache: &twotier::Cache<String>) {
    let _ = cache.get_or_load(7, async |id: u64| Ok::<u64, std::io::Error>(id)).await;
}

fn main() {}
