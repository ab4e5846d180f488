//! error[E0277]: `NoRow` cannot be the error of a loader
//! = note: an error implements `std::error::Error + Send + Sync + 'static`, or is an `anyhow::Error` or a string

struct NoRow;

async fn loads(cache: &twotier::Cache<String>) {
    let _ = cache.get_or_load(7, async |_| Err::<String, _>(NoRow)).await;
}

fn main() {}
