//! error[E0277]: `Option<u64>` is not a key of a cache

async fn reads(cache: &twotier::Cache<String>) {
    let _ = cache.get_many(&[Some(1_u64)]).await;
}

fn main() {}
