//! error[E0593]: closure is expected to take 1 argument, but it takes 0 arguments
//! help: consider changing the closure to take and ignore the expected argument

async fn loads(cache: &twotier::Cache<String>) {
    let _ = cache.get_or_load(7, || async { Ok::<_, std::io::Error>(String::new()) }).await;
}

fn main() {}
