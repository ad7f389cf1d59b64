//! Protobuf as the JSON that an API server answers with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::schema::{Field as Known, Kind, Message, Shape, message};
use crate::inspect::kube::{part, parts};
use crate::protobuf::{Field, fields};

/// How deep messages lie in each other at the most; those of Kubernetes some 20, schemas
/// of custom resources as deep as their authors like.
const DEPTH: u32 = 100;

/// Messages of an object at the most. The smallest take three bytes, and 800 of memory:
/// the largest objects of a cluster have some ten thousand.
const MESSAGES: u32 = 1 << 18;

/// Unknown fields that are told of an object.
const UNKNOWN: usize = 100;

/// The object that `bytes` are as a `message`, and which fields of it are not known;
/// `None` for what is malformed.
pub(super) fn object(message: &Message, bytes: &[u8]) -> Option<(Map<String, Value>, Vec<String>)> {
    let mut decoder = Decoder::default();
    let mut object = Map::new();
    decoder.fields_of(message, bytes, &mut object, 0)?;
    Some((object, decoder.unknown))
}

/// Whether the JSON of a message is not that of its fields.
#[cfg(test)]
pub(super) fn is_own(name: &str) -> bool {
    let mut decoder = Decoder::default();
    decoder.own(name, &[], 0).is_some()
}

#[derive(Default)]
struct Decoder {
    messages: u32,
    unknown: Vec<String>,
}

impl Decoder {
    fn fields_of(
        &mut self,
        message: &Message,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: u32,
    ) -> Option<()> {
        self.messages += 1;
        if depth > DEPTH || self.messages > MESSAGES {
            return None;
        }
        for field in fields(bytes) {
            let (number, field) = field?;
            let Some(known) = message.field(number) else {
                self.tell(format!("{} {number}", message.name));
                continue;
            };
            if known.name == "-" {
                self.inline(known, field, object, depth)?;
                continue;
            }
            match known.shape {
                Shape::One => {
                    if let Some(value) = self.value(known.kind, field, known.omits_zero, depth)? {
                        object.insert(known.name.to_owned(), value);
                    }
                }
                Shape::List => {
                    let list = object.entry(known.name).or_insert_with(|| json!([]));
                    let list = list.as_array_mut()?;
                    match (known.kind, field) {
                        (Kind::Int, Field::Bytes(packed)) => list.extend(integers(packed)?),
                        _ => list.extend(self.value(known.kind, field, false, depth)?),
                    }
                }
                Shape::Map => {
                    let Field::Bytes(entry) = field else {
                        return None;
                    };
                    let (key, value) = self.entry(known.kind, entry, depth)?;
                    let map = object.entry(known.name).or_insert_with(|| json!({}));
                    map.as_object_mut()?.insert(key, value);
                }
            }
        }
        Some(())
    }

    fn tell(&mut self, unknown: String) {
        if self.unknown.len() < UNKNOWN && !self.unknown.contains(&unknown) {
            self.unknown.push(unknown);
        }
    }

    /// Fields that stand in the object itself.
    fn inline(
        &mut self,
        known: &Known,
        field: Field<'_>,
        object: &mut Map<String, Value>,
        depth: u32,
    ) -> Option<()> {
        let (Kind::Message(name), Field::Bytes(bytes)) = (known.kind, field) else {
            return None;
        };
        self.fields_of(message(name)?, bytes, object, depth + 1)
    }

    /// One entry of a map: key and value, each of which is left out where it is empty.
    fn entry(&mut self, kind: Kind, entry: &[u8], depth: u32) -> Option<(String, Value)> {
        let key = text(part(entry, 1).unwrap_or_default())?;
        let mut value = None;
        for field in fields(entry) {
            if let (2, field) = field? {
                value = self.value(kind, field, false, depth)?;
            }
        }
        let value = match (value, kind) {
            (Some(value), _) => value,
            (None, Kind::Text | Kind::Bytes) => json!(""),
            (None, Kind::Message(_)) => self
                .value(kind, Field::Bytes(&[]), false, depth)?
                .unwrap_or_default(),
            (None, Kind::Bool) => json!(false),
            (None, Kind::Int | Kind::Double) => json!(0),
        };
        Some((key, value))
    }

    /// A value; `Some(None)` where JSON has none.
    fn value(
        &mut self,
        kind: Kind,
        field: Field<'_>,
        omits_zero: bool,
        depth: u32,
    ) -> Option<Option<Value>> {
        let value = match (kind, field) {
            (Kind::Bool, Field::Number(number)) => {
                Some(json!(number != 0)).filter(|_| number != 0 || !omits_zero)
            }
            (Kind::Int, Field::Number(number)) => {
                Some(json!(number.cast_signed())).filter(|_| number != 0 || !omits_zero)
            }
            (Kind::Double, Field::Fixed(bytes)) => {
                let number = f64::from_le_bytes(bytes.try_into().ok()?);
                Some(decimal(number)).filter(|_| number != 0.0 || !omits_zero)
            }
            (Kind::Text, Field::Bytes(bytes)) => {
                Some(json!(text(bytes)?)).filter(|_| !bytes.is_empty() || !omits_zero)
            }
            (Kind::Bytes, Field::Bytes(bytes)) => {
                Some(json!(STANDARD.encode(bytes))).filter(|_| !bytes.is_empty() || !omits_zero)
            }
            (Kind::Message(name), Field::Bytes(bytes)) => {
                // The table has no message that is written in its own way.
                let Some(known) = message(name) else {
                    return self.own(name, bytes, depth);
                };
                let mut object = Map::new();
                self.fields_of(known, bytes, &mut object, depth + 1)?;
                Some(Value::Object(object)).filter(|it| !omits_zero || *it != json!({}))
            }
            _ => return None,
        };
        Some(value)
    }

    /// A message whose JSON is not that of its fields; `cargo xtask schema` leaves these
    /// out of the table.
    fn own(&mut self, name: &str, bytes: &[u8], depth: u32) -> Option<Option<Value>> {
        let value = match name {
            "meta.v1.Time" => return time(bytes, false),
            "meta.v1.MicroTime" => return time(bytes, true),
            "resource.Quantity" => json!(text(part(bytes, 1).unwrap_or_default())?),
            "intstr.IntOrString" => match number(bytes, 1) {
                1 => json!(text(part(bytes, 3).unwrap_or_default())?),
                // Of 32 bits, also where it is negative.
                _ => json!(number(bytes, 2).cast_signed()),
            },
            "meta.v1.Duration" => json!(format!("{}ns", number(bytes, 1).cast_signed())),
            "runtime.RawExtension" | "meta.v1.FieldsV1" | "apiextensions.v1.JSON" => {
                match part(bytes, 1) {
                    None | Some([]) => return Some(None),
                    Some(raw) => serde_json::from_slice(raw).ok()?,
                }
            }
            "apiextensions.v1.JSONSchemaPropsOrBool" => match part(bytes, 2) {
                Some(schema) => self.schema(schema, depth)?,
                None => json!(number(bytes, 1) != 0),
            },
            "apiextensions.v1.JSONSchemaPropsOrArray" => match part(bytes, 1) {
                Some(schema) => self.schema(schema, depth)?,
                None => {
                    let all = parts(bytes, 2).map(|schema| self.schema(schema, depth));
                    Value::Array(all.collect::<Option<_>>()?)
                }
            },
            "apiextensions.v1.JSONSchemaPropsOrStringArray" => match part(bytes, 1) {
                Some(schema) => self.schema(schema, depth)?,
                None => {
                    let all = parts(bytes, 2).map(|it| text(it).map(Value::from));
                    Value::Array(all.collect::<Option<_>>()?)
                }
            },
            _ => return None,
        };
        Some(Some(value))
    }

    fn schema(&mut self, bytes: &[u8], depth: u32) -> Option<Value> {
        let mut object = Map::new();
        let props = message("apiextensions.v1.JSONSchemaProps")?;
        self.fields_of(props, bytes, &mut object, depth + 1)?;
        Some(Value::Object(object))
    }
}

/// Seconds and nanoseconds since 1970; the zero time has neither, and no JSON.
fn time(bytes: &[u8], is_micro: bool) -> Option<Option<Value>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let nanos = if is_micro { number(bytes, 2) } else { 0 };
    let nanos = i32::try_from(nanos).ok()?;
    let time = jiff::Timestamp::new(number(bytes, 1).cast_signed(), nanos).ok()?;
    Some(Some(match is_micro {
        true => json!(format!("{time:.6}")),
        false => json!(time.to_string()),
    }))
}

/// A number of a message, 0 where it is left out.
fn number(message: &[u8], wanted: u64) -> u64 {
    let found = fields(message).flatten().find_map(|field| match field {
        (at, Field::Number(number)) if at == wanted => Some(number),
        _ => None,
    });
    found.unwrap_or_default()
}

/// A number as JSON has it: without a fraction where it has none.
fn decimal(number: f64) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    match number.fract() == 0.0 && number.abs() < EXACT {
        true => json!(number as i64),
        false => json!(number),
    }
}

/// Numbers one after the other.
fn integers(mut packed: &[u8]) -> Option<Vec<Value>> {
    let mut numbers = Vec::new();
    while !packed.is_empty() {
        numbers.push(json!(crate::protobuf::varint(&mut packed)?.cast_signed()));
    }
    Some(numbers)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
