//! Values that many objects have alike.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is held once, however many objects of a model have it.
///
/// # Guarantees
/// - It is used, compared and written as the value itself.
/// - What is changed through one holder changes for no other: that one gets a
///   copy of its own first.
///
/// Two holders of one value are found equal without looking at it.
#[derive(Debug, Default, Eq, Ord, PartialOrd)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Whether both hold the same value in memory. `false` says nothing: they may
    /// still be equal.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: PartialEq> Shared<T> {
    /// Holds what `other` holds, if the values are equal.
    pub fn share(&mut self, other: &Self) {
        if !self.is_same(other) && *self.0 == *other.0 {
            self.0 = Arc::clone(&other.0);
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || *self.0 == *other.0
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: FromIterator<I>, I> FromIterator<I> for Shared<T> {
    fn from_iter<S: IntoIterator<Item = I>>(items: S) -> Self {
        Self::from(items.into_iter().collect::<T>())
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&*self.0).into_iter()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_holder_changes_stays_with_the_others() {
        let mut one = Shared::from(vec![1, 2]);
        let other = one.clone();
        assert!(one.is_same(&other));
        one.push(3);
        assert_eq!((&*one, &*other), (&vec![1, 2, 3], &vec![1, 2]));
        assert_ne!(one, other);
    }

    #[test]
    fn equal_values_are_shared_and_others_are_not() {
        let first = Shared::from(vec![1]);
        let mut equal = Shared::from(vec![1]);
        assert!(!equal.is_same(&first) && equal == first);
        equal.share(&first);
        assert!(equal.is_same(&first));
        let mut another = Shared::from(vec![2]);
        another.share(&first);
        assert_eq!(*another, [2]);
    }

    #[test]
    fn it_is_written_as_the_value_itself() {
        let value = Shared::from(vec![1, 2]);
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, "[1,2]");
        assert_eq!(
            serde_json::from_str::<Shared<Vec<u8>>>(&json).unwrap(),
            Shared::from(vec![1, 2])
        );
    }
}
