//! error[E0277]: `&str` is not a value of a `Cache<u64>`

async fn writes(cache: &twotier::Cache<u64>) {
    let _ = cache.set("k", "7").await;
}

fn main() {}
