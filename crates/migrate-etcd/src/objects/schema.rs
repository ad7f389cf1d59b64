//! Which field of which message is what, from `schema.txt`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Written by `cargo xtask schema` from the sources of Kubernetes.
const TEXT: &str = include_str!("schema.txt");

/// A message of Kubernetes.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// `core.v1.Pod`.
    pub(super) name: &'static str,
    fields: BTreeMap<u64, Field>,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in JSON; `-` where its own fields stand in the place of it.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    /// JSON leaves it out when it is zero.
    pub(super) omits_zero: bool,
}

/// How often a field is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    One,
    List,
    /// By a text.
    Map,
}

/// What one value of a field is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Bool,
    Bytes,
    Double,
    Int,
    Text,
    /// A message by its name.
    Message(&'static str),
}

impl Message {
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        self.fields.get(&number)
    }
}

#[derive(Debug, Default)]
struct Schema {
    messages: BTreeMap<&'static str, Message>,
    /// By `apiVersion` and `kind`.
    kinds: BTreeMap<(&'static str, &'static str), &'static str>,
}

/// The message of a kind.
pub(super) fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let schema = schema();
    schema.messages.get(schema.kinds.get(&(api_version, kind))?)
}

/// A message by its name.
pub(super) fn message(name: &str) -> Option<&'static Message> {
    schema().messages.get(name)
}

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    // Every line is read by a test: none is left out here.
    SCHEMA.get_or_init(|| parse(TEXT).unwrap_or_default())
}

/// Lines `kind APIVERSION KIND MESSAGE` and `MESSAGE: NUMBER NAME TYPE, …`.
fn parse(text: &'static str) -> Result<Schema, String> {
    let mut schema = Schema::default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let malformed = || format!("malformed: {line}");
        if let Some(kind) = line.strip_prefix("kind ") {
            let mut words = kind.split(' ');
            let mut word = || words.next().ok_or_else(malformed);
            let key = (word()?, word()?);
            schema.kinds.insert(key, word()?);
            continue;
        }
        let (name, fields) = line.split_once(':').ok_or_else(malformed)?;
        let mut message = Message {
            name,
            ..Message::default()
        };
        for field in fields.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (number, field) = Field::parse(field).ok_or_else(malformed)?;
            message.fields.insert(number, field);
        }
        schema.messages.insert(name, message);
    }
    Ok(schema)
}

impl Field {
    /// `7 env []core.v1.EnvVar?`
    fn parse(text: &'static str) -> Option<(u64, Self)> {
        let mut words = text.split(' ');
        let number = words.next()?.parse().ok()?;
        let name = words.next()?;
        let kind = words.next()?;
        let (kind, omits_zero) = match kind.strip_suffix('?') {
            Some(kind) => (kind, true),
            None => (kind, false),
        };
        let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
            (Some(kind), _) => (Shape::List, kind),
            (_, Some(kind)) => (Shape::Map, kind),
            _ => (Shape::One, kind),
        };
        let kind = match kind {
            "bool" => Kind::Bool,
            "bytes" => Kind::Bytes,
            "double" => Kind::Double,
            "int" => Kind::Int,
            "string" => Kind::Text,
            message => Kind::Message(message),
        };
        let field = Self {
            name,
            shape,
            kind,
            omits_zero,
        };
        words.next().is_none().then_some((number, field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_every_message_is_there() {
        let schema = parse(TEXT).unwrap();
        assert!(schema.kinds.len() > 30, "{}", schema.kinds.len());
        let named = schema.messages.values().flat_map(|it| it.fields.values());
        let kinds = named.filter_map(|field| match field.kind {
            Kind::Message(name) => Some(name),
            _ => None,
        });
        for name in kinds.chain(schema.kinds.values().copied()) {
            let known = schema.messages.contains_key(name) || super::super::decode::is_own(name);
            assert!(known, "{name}");
        }
        for wrong in [
            "kind v1 Pod",
            "core.v1.Pod",
            "core.v1.Pod: x metadata y",
            "a: 1 b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
