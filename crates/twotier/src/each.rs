//! `set_each` and `delete_each`: batches in which every item fares by itself.

use std::{collections::HashMap, sync::Arc};

use twotier_core::Operation;

use crate::{Result, SetOptions, shared::Shared};

impl<V: Send + Sync + 'static> Shared<V> {
    /// Writes many values: same length and order as `items`. Of two values for one key the later one wins, and what
    /// becomes of it is the result of both.
    pub(crate) async fn set_each(self: &Arc<Self>, items: Vec<(String, Arc<V>)>) -> Vec<Result<()>> {
        let operation = Operation::SetMany;
        if let Err(closed) = self.open(operation) {
            return items.iter().map(|_| Err(closed.clone())).collect();
        }
        let last: HashMap<String, usize> =
            items.iter().enumerate().map(|(index, (key, _))| (key.clone(), index)).collect();
        let deciding: Vec<Option<usize>> = items.iter().map(|(key, _)| last.get(key).copied()).collect();
        let mut results = vec![Ok(()); items.len()];
        let (mut indices, mut prepared) = (Vec::new(), Vec::new());
        for (index, (key, value)) in items.into_iter().enumerate().filter(|(index, _)| deciding[*index] == Some(*index))
        {
            let checked = self.check_key(operation, &key);
            match checked.and_then(|()| self.prepare(operation, &key, value, SetOptions::default())) {
                Ok(value) => {
                    indices.push(index);
                    prepared.push((key, value));
                }
                Err(refused) => results[index] = Err(refused),
            }
        }
        let written = self.set_batches(operation, prepared).await;
        for (index, result) in indices.into_iter().zip(written) {
            results[index] = result;
        }
        deciding.into_iter().flatten().map(|index| results[index].clone()).collect()
    }

    /// Deletes many keys: same length and order as `keys`.
    pub(crate) async fn delete_each(self: &Arc<Self>, keys: &[&str]) -> Vec<Result<bool>> {
        let operation = Operation::DeleteMany;
        if let Err(closed) = self.open(operation) {
            return keys.iter().map(|_| Err(closed.clone())).collect();
        }
        let mut results: HashMap<&str, Result<bool>> = HashMap::with_capacity(keys.len());
        let mut distinct = Vec::with_capacity(keys.len());
        for key in keys {
            if !results.contains_key(key) {
                let checked = self.check_key(operation, key);
                if checked.is_ok() {
                    distinct.push(*key);
                }
                results.insert(key, checked.map(|()| false));
            }
        }
        let deleted = self.delete_batches(operation, &distinct).await;
        results.extend(distinct.into_iter().zip(deleted));
        keys.iter().filter_map(|key| results.get(key).cloned()).collect()
    }
}
