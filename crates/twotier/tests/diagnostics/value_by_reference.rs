//! error[E0277]: `&String` is not a value of a `Cache<String>`
//! = note: a value is given as it is or in an `Arc`, and never by reference: call `.clone()`, or keep it in an `Arc`

async fn writes(cache: &twotier::Cache<String>, value: &String) {
    let _ = cache.set("k", value).await;
}

fn main() {}
