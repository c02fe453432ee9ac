//! What is kept of each worker, in the order in which they were started. Ids only rise, and there are few:
//! so the histories find them, and above all walk through them, faster in one piece than in a tree.

use std::ops::Index;

use remuda::rollout::WorkerId;

#[derive(Debug)]
pub(crate) struct Rising<V>(Vec<(WorkerId, V)>);

impl<V> Rising<V> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Of a worker that is newer than all the others.
    pub(crate) fn push(&mut self, id: WorkerId, value: V) {
        assert!(
            self.0.last().is_none_or(|(last, _)| *last < id),
            "ids are never reused"
        );
        self.0.push((id, value));
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&V> {
        self.find(id).map(|index| &self.0[index].1)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut V> {
        self.find(id).map(|index| &mut self.0[index].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &V)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut V)> {
        self.0.iter_mut().map(|(id, value)| (*id, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }

    fn find(&self, id: WorkerId) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(known, _)| *known).ok()
    }
}

impl<V> Index<WorkerId> for Rising<V> {
    type Output = V;

    fn index(&self, id: WorkerId) -> &V {
        self.get(id).expect("it was started")
    }
}
