//! Label selectors and counts that may be percentages, as Kubernetes objects
//! carry them.
//!
//! Both are read and written in Kubernetes' own JSON form.

mod index;
mod int_or_percent;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use self::index::SelectorIndex;
pub use self::int_or_percent::{IntOrPercent, ParseIntOrPercentError};

/// `metav1.LabelSelector`: the objects whose labels meet every requirement.
///
/// An *empty* selector matches everything. An *absent* one is not a value of
/// this type, because what it means depends on the field (usually nothing);
/// hold it as `Option<LabelSelector>` and decide there.
///
/// ```
/// use std::collections::BTreeMap;
/// use migrate_core::selector::LabelSelector;
///
/// let selector: LabelSelector = serde_json::from_str(
///     r#"{"matchLabels": {"app": "web"},
///         "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["test"]}]}"#,
/// )?;
/// let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
/// assert!(selector.matches(&labels)); // NotIn also matches when the label is absent
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct LabelSelector {
    /// Labels that must be present with exactly this value.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_expressions: Vec<Requirement>,
}

/// `metav1.LabelSelectorRequirement`: one condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub values: Vec<String>,
}

/// The operator of a [`Requirement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Operator {
    /// The label is present with one of the values.
    In,
    /// The label is absent, or present with a value that is none of these.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// A selector that an API server would refuse.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A requirement without a key.
    #[error("a requirement has an empty key; name the label it is about")]
    EmptyKey,
    /// `In` or `NotIn` without values.
    #[error("{operator} on label {key:?} needs at least one value; add one, or use Exists")]
    MissingValues {
        /// The label's key.
        key: String,
        /// The operator.
        operator: Operator,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("{operator} on label {key:?} takes no values; remove them, or use In or NotIn")]
    UnexpectedValues {
        /// The label's key.
        key: String,
        /// The operator.
        operator: Operator,
    },
}

impl LabelSelector {
    /// The selector that matches everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires a label with a value.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.match_labels.insert(key.into(), value.into());
        self
    }

    /// Adds a requirement.
    #[must_use]
    pub fn with_requirement(mut self, requirement: Requirement) -> Self {
        self.match_expressions.push(requirement);
        self
    }

    /// Whether it has no requirement at all, and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether these labels meet every requirement.
    ///
    /// Selectors that do not [`validate`](Self::validate), which no API server
    /// stores, are taken at their word: `In` nothing never matches, `NotIn`
    /// nothing always does, values of `Exists` and `DoesNotExist` are ignored.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Checks what an API server checks of keys and values, apart from their
    /// syntax as labels.
    ///
    /// # Errors
    /// The first requirement that is not well-formed.
    pub fn validate(&self) -> Result<(), SelectorError> {
        if self.match_labels.contains_key("") {
            return Err(SelectorError::EmptyKey);
        }
        self.match_expressions
            .iter()
            .try_for_each(Requirement::validate)
    }
}

impl Requirement {
    /// A requirement on the label `key`.
    pub fn new<V: Into<String>>(
        key: impl Into<String>,
        operator: Operator,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self {
            key: key.into(),
            operator,
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether these labels meet it; see [`LabelSelector::matches`].
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn validate(&self) -> Result<(), SelectorError> {
        if self.key.is_empty() {
            return Err(SelectorError::EmptyKey);
        }
        let (key, operator) = (self.key.clone(), self.operator);
        match (operator, self.values.is_empty()) {
            (Operator::In | Operator::NotIn, true) => {
                Err(SelectorError::MissingValues { key, operator })
            }
            (Operator::Exists | Operator::DoesNotExist, false) => {
                Err(SelectorError::UnexpectedValues { key, operator })
            }
            _ => Ok(()),
        }
    }
}

/// Kubernetes reads `null` and an absent field alike.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// As written on a command line: `app=web,tier notin (test),!legacy`; an empty
/// selector as `everything`.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("everything");
        }
        let mut separator = "";
        for (key, value) in &self.match_labels {
            write!(f, "{separator}{key}={value}")?;
            separator = ",";
        }
        for requirement in &self.match_expressions {
            write!(f, "{separator}{requirement}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    fn operator() -> impl Strategy<Value = Operator> {
        use Operator::*;
        prop::sample::select(vec![In, NotIn, Exists, DoesNotExist])
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        ("[ab]", operator(), prop::collection::vec("[xyz]", 0..3))
            .prop_map(|(key, operator, values)| Requirement::new(key, operator, values))
    }

    fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[abc]", "[xyz]", 0..3)
    }

    fn selector() -> impl Strategy<Value = LabelSelector> {
        (any_labels(), prop::collection::vec(requirement(), 0..3)).prop_map(
            |(match_labels, match_expressions)| LabelSelector {
                match_labels,
                match_expressions,
            },
        )
    }

    #[test]
    fn truth_table_of_the_operators() {
        let (absent, listed, other) = (labels([]), labels([("k", "x")]), labels([("k", "z")]));
        for (operator, values, expected) in [
            (Operator::In, vec!["x", "y"], [false, true, false]),
            (Operator::NotIn, vec!["x", "y"], [true, false, true]),
            (Operator::Exists, vec![], [false, true, true]),
            (Operator::DoesNotExist, vec![], [true, false, false]),
        ] {
            let requirement = Requirement::new("k", operator, values);
            let selector = LabelSelector::new().with_requirement(requirement);
            assert_eq!(selector.validate(), Ok(()));
            let matches = [&absent, &listed, &other].map(|labels| selector.matches(labels));
            assert_eq!(matches, expected, "{operator}");
        }
    }

    #[test]
    fn reads_and_writes_the_form_of_kubernetes() {
        let text = r#"{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"tier","operator":"In","values":["a","b"]},{"key":"old","operator":"DoesNotExist"}]}"#;
        let selector: LabelSelector = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&selector).unwrap(), text);
        assert_eq!(selector.to_string(), "app=web,tier in (a,b),!old");

        for empty in ["{}", r#"{"matchLabels":null,"matchExpressions":null}"#] {
            let selector: LabelSelector = serde_json::from_str(empty).unwrap();
            assert!(selector.is_empty() && selector.matches(&labels([("any", "thing")])));
            assert_eq!(serde_json::to_string(&selector).unwrap(), "{}");
        }
        let unknown = r#"{"matchExpressions":[{"key":"k","operator":"Gt","values":["1"]}]}"#;
        assert!(serde_json::from_str::<LabelSelector>(unknown).is_err());
    }

    #[test]
    fn what_an_api_server_refuses_is_refused() {
        let with = |requirement| LabelSelector::new().with_requirement(requirement);
        let none: [&str; 0] = [];
        let missing = with(Requirement::new("k", Operator::NotIn, none));
        assert!(
            missing
                .validate()
                .unwrap_err()
                .to_string()
                .contains("NotIn on label \"k\"")
        );
        let unexpected = with(Requirement::new("k", Operator::Exists, ["x"]));
        assert!(matches!(
            unexpected.validate(),
            Err(SelectorError::UnexpectedValues { .. })
        ));
        let keyless = with(Requirement::new("", Operator::Exists, none));
        assert_eq!(keyless.validate(), Err(SelectorError::EmptyKey));
    }

    proptest! {
        #[test]
        fn requirements_are_joined_by_and(selector in selector(), labels in any_labels()) {
            let by_label = selector.match_labels.iter().map(|(key, value)| {
                LabelSelector::new()
                    .with_requirement(Requirement::new(key, Operator::In, [value]))
                    .matches(&labels)
            });
            let by_requirement = selector.match_expressions.iter().map(|r| r.matches(&labels));
            let all = by_label.chain(by_requirement).all(|one| one);
            prop_assert_eq!(selector.matches(&labels), all);
        }

        #[test]
        fn opposite_operators_are_opposites(requirement in requirement(), labels in any_labels()) {
            let opposite = match requirement.operator {
                Operator::In => Operator::NotIn,
                Operator::NotIn => Operator::In,
                Operator::Exists => Operator::DoesNotExist,
                Operator::DoesNotExist => Operator::Exists,
            };
            let opposite = Requirement { operator: opposite, ..requirement.clone() };
            prop_assert_ne!(requirement.matches(&labels), opposite.matches(&labels));
        }

        #[test]
        fn unrelated_labels_change_nothing(selector in selector(), labels in any_labels()) {
            let mut more = labels.clone();
            more.insert("unrelated".into(), "x".into());
            prop_assert_eq!(selector.matches(&labels), selector.matches(&more));
        }

        #[test]
        fn json_round_trips(selector in selector()) {
            let json = serde_json::to_string(&selector).unwrap();
            prop_assert_eq!(serde_json::from_str::<LabelSelector>(&json).unwrap(), selector);
        }
    }
}
