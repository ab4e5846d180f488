//! error[E0277]: `UserId` is not a key of a cache
//! = note: for a type of your own, implement `twotier::Key`: `fn write(&self, text: &mut KeyText)`

struct UserId(u64);

async fn deletes(cache: &twotier::Cache<String>) {
    let _ = cache.delete(UserId(7)).await;
}

fn main() {}
