//! What a Rust source names, as far as a guard has to know it.

/// `text` without comments, without what literals say and without its inline
/// test modules. Lines stay where they are.
///
/// Prose may name anything: only code can break a boundary.
pub(super) fn code(text: &str) -> String {
    without_tests(&without_prose(text))
}

/// The words of `code`, each with its line from 1: names, and every other sign
/// but white space by itself.
pub(super) fn words(code: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while let Some(sign) = rest.chars().next() {
            let name = rest.find(|sign| !is_of_name(sign)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(if name == 0 { sign.len_utf8() } else { name });
            words.push((line, word));
            rest = after.trim_start();
        }
    }
    words
}

pub(super) fn is_of_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn without_prose(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let after_name = code.ends_with(is_of_name);
        let prose = match sign {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !after_name => raw_string(&rest[1..]).map_or(0, |length| length + 1),
            'b' if !after_name && rest.starts_with("br") => {
                raw_string(&rest[2..]).map_or(0, |length| length + 2)
            }
            '\'' => character(rest),
            _ => 0,
        };
        if prose == 0 {
            code.push(sign);
            rest = &rest[sign.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..prose].matches('\n'));
            rest = &rest[prose..];
        }
    }
    code
}

/// How long the comment is that `text` begins with; comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// How long the string is that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long the raw string is of which `text` is what follows its `r`, if it is
/// one.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.find(|sign| sign != '#')?;
    let inside = text[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &text[..hashes]);
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(hashes + 1 + length)
}

/// How long the character is that `text` begins with; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    match (signs.next(), signs.next()) {
        (Some((_, '\\')), Some((at, sign))) => {
            let after = at + sign.len_utf8();
            text[after..].find('\'').map_or(0, |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Blanks what `#[cfg(test)]` stands before: a module with its body.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        kept.push_str(before);
        let end = item(marked);
        kept.extend(marked[..end].matches('\n'));
        rest = &marked[end..];
    }
    kept.push_str(rest);
    kept
}

/// How long the first item of `code` is: to its semicolon or its last brace.
fn item(code: &str) -> usize {
    let mut depth = 0_u32;
    for (at, sign) in code.char_indices() {
        match sign {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_counts() {
        let text = "a /* b /* c */\n d */ e // f\n\"g\\\"h\" 'i' '\\'' '\\u{61}' r#\"j\"k\"# br\"l\" <'m> n";
        let seen = code(text);
        let names = words(&seen);
        let names: Vec<_> = names
            .into_iter()
            .filter(|(_, word)| word.starts_with(is_of_name))
            .collect();
        assert_eq!(names, [(1, "a"), (2, "e"), (3, "m"), (3, "n")]);
    }

    #[test]
    fn tests_do_not_count_and_what_follows_them_does() {
        let text = "a\n#[cfg(test)]\nmod tests {\n fn b() { c }\n}\nd\n#[cfg(test)]\nmod e;\nf";
        let seen = code(text);
        assert_eq!(words(&seen), [(1, "a"), (6, "d"), (9, "f")]);
    }
}
