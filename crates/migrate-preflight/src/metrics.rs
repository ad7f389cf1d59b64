//! The Prometheus text format, as much of it as a metric's samples need.

use std::collections::BTreeMap;

/// One line of samples: `name{label="value"} 1`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    /// Reads a line; `None` for comments, empty lines and what is no sample.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
        let (name, rest) = line.split_at_checked(end)?;
        if name.is_empty() {
            return None;
        }
        let mut labels = BTreeMap::new();
        let mut rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = read_labels(inside, &mut labels)?;
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value,
        })
    }

    /// A label's value, empty if it has none.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Reads `a="b",c="d"}` and gives back what follows.
fn read_labels<'a>(mut text: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start().strip_prefix('"')?;
        let (value, rest) = read_quoted(rest)?;
        labels.insert(name.trim().to_owned(), value);
        text = rest.trim_start();
        text = text.strip_prefix(',').unwrap_or(text);
    }
}

/// Reads up to the closing quote; the opening one is gone already.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let line = r#"apiserver_requested_deprecated_apis{group="policy",version="v1beta1",x="a\"b\\c\nd}",} 1 1700000000"#;
        let sample = Sample::parse(line).unwrap();
        assert_eq!(sample.name, "apiserver_requested_deprecated_apis");
        assert_eq!(
            (sample.label("group"), sample.label("none")),
            ("policy", "")
        );
        assert_eq!(sample.label("x"), "a\"b\\c\nd}");
        assert_eq!(sample.value, 1.0);
        assert_eq!(Sample::parse("up 0").unwrap().value, 0.0);
        assert_eq!(Sample::parse("up +Inf").unwrap().value, f64::INFINITY);
        for not_one in [
            "",
            "# HELP up x",
            "up",
            "up{",
            "up{a",
            "up{a=\"",
            "up{a=\"b",
            "up{a=\"b\\",
            "{} 1",
            "up x",
        ] {
            assert_eq!(Sample::parse(not_one), None, "{not_one:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), noise in r#"[a-z{}="\\,# \n\u{e9}1]{0,40}"#) {
            let _ = Sample::parse(&text);
            let _ = Sample::parse(&noise);
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z_]{1,20}",
            labels in proptest::collection::btree_map("[a-z]{1,5}", any::<String>(), 0..4),
            value in -1000i32..1000,
        ) {
            let quote = |text: &String| {
                text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            };
            let pairs: Vec<String> =
                labels.iter().map(|(key, text)| format!("{key}=\"{}\"", quote(text))).collect();
            let line = format!("{name}{{{}}} {value}", pairs.join(","));
            let sample = Sample { name, labels, value: value.into() };
            prop_assert_eq!(Sample::parse(&line), Some(sample), "{}", line);
        }
    }
}
