//! A Rust source file as the rules see it: production code and test code apart, comments and literals blanked out, every
//! byte at its place so that line numbers stay true.

use std::collections::HashSet;
use std::iter;
use std::ops::Range;
use std::path::Path;

/// One file.
#[derive(Debug)]
pub struct Source {
    /// From the crate's root, with slashes.
    pub path: String,
    /// The top-level module that it belongs to: `queue` for `src/queue/budget.rs`, `lib` for `src/lib.rs`.
    pub module: String,
    /// Whether all of it is compiled for tests only.
    pub is_test: bool,
    /// As it is.
    pub text: String,
    /// Without comments, literals and test items.
    pub code: String,
    /// Only what is compiled for tests, without comments and literals.
    pub test_code: String,
    /// How deep its module lies below the crate's root.
    depth: usize,
}

impl Source {
    /// Files that may declare each other as test modules.
    pub fn all(files: Vec<(String, String)>) -> Vec<Source> {
        let blanked: Vec<String> = files.iter().map(|(_, text)| without_comments_and_literals(text)).collect();
        let test_modules: HashSet<String> =
            files.iter().zip(&blanked).flat_map(|((path, _), code)| declared_test_modules(path, code)).collect();
        let sources = files.into_iter().zip(blanked).map(|((path, text), blanked)| {
            let is_test = path.starts_with("tests/")
                || test_modules
                    .iter()
                    .any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")));
            let tests = if is_test { iter::once(0..blanked.len()).collect() } else { test_items(&blanked) };
            let mut code = blanked.clone();
            for range in &tests {
                code.replace_range(range.clone(), &blank(&blanked[range.clone()]));
            }
            let mut test_code = blank(&blanked);
            for range in &tests {
                test_code.replace_range(range.clone(), &blanked[range.clone()]);
            }
            let (module, depth) = place(&path);
            Source { path, module, is_test, text, code, test_code, depth }
        });
        sources.collect()
    }

    /// How many lines come before the first test module, or all where there is none.
    pub fn lines_before_tests(&self) -> usize {
        let first_test = test_items(&without_comments_and_literals(&self.text)).first().map(|range| range.start);
        match first_test {
            Some(at) => self.text[..at].lines().count(),
            None => self.text.lines().count(),
        }
    }
}

/// Every top-level module that a file's production code names, and where. A name that is none is given as it stands.
pub fn edges(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut edges = Vec::new();
    for at in words(code, "crate") {
        if let Some(path) = code[at + "crate".len()..].strip_prefix("::") {
            edges.extend(first_names(path).into_iter().map(|name| (at, name)));
        }
    }
    for at in words(code, "super") {
        // The first of a chain; the others are counted with it.
        if code[..at].ends_with("::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut climbed = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            climbed += 1;
        }
        if climbed >= source.depth {
            edges.extend(first_names(rest).into_iter().map(|name| (at, name)));
        }
    }
    edges
}

/// Where `word` stands in `code` as a whole identifier.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// The line, from 1, of a place in a text.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first name of a path, or of each branch of a braced group.
fn first_names(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        let name: String = path.chars().take_while(|c| is_name(*c) || *c == '*').collect();
        return vec![name];
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut branch_start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let branch = group[branch_start..at].trim();
                if !branch.is_empty() {
                    names.extend(first_names(branch));
                }
                branch_start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// The top-level module and the depth of a file's module.
fn place(path: &str) -> (String, usize) {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs").trim_end_matches("/mod");
    let module = inner.split('/').next().unwrap_or(inner);
    let depth = if module == "lib" || module == "main" { 0 } else { inner.split('/').count() };
    (module.to_owned(), depth)
}

/// Paths, without `.rs`, of the modules that a file declares with `#[cfg(test)] mod name;`.
fn declared_test_modules(path: &str, code: &str) -> Vec<String> {
    let path = Path::new(path);
    let parent = path.parent().unwrap_or(Path::new(""));
    let directory = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") | None => parent.to_owned(),
        Some(stem) => parent.join(stem),
    };
    let declarations = test_items(code).into_iter().filter_map(|range| {
        let item = code[range].strip_suffix(';')?;
        let name = item.rsplit(char::is_whitespace).next()?;
        item.contains("mod ").then(|| directory.join(name).to_string_lossy().into_owned())
    });
    declarations.collect()
}

/// Where items that are compiled for tests only stand, attribute included, in code that has been blanked.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices("#[cfg(test)]").chain(code.match_indices("#[cfg(all(test,")) {
        if items.iter().any(|item| item.contains(&start)) {
            continue;
        }
        let attribute_end = start + code[start..].find(']').map_or(code.len() - start, |at| at + 1);
        let mut depth = 0_usize;
        let mut end = code.len();
        for (at, c) in code[attribute_end..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && (c == ';' || c == '}') {
                end = attribute_end + at + 1;
                break;
            }
        }
        items.push(start..end);
    }
    items.sort_by_key(|item| item.start);
    items
}

/// The same length, nothing but spaces and line feeds.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The text with comments, string literals and character literals blanked out.
fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_name = out.chars().next_back().is_some_and(is_name);
        let hidden = comment_len(rest).or_else(|| string_len(rest, after_name)).or_else(|| char_len(rest));
        let len = hidden.unwrap_or(c.len_utf8());
        let (taken, after) = rest.split_at(len);
        if hidden.is_some() {
            out.push_str(&blank(taken))
        } else {
            out.push_str(taken)
        }
        rest = after;
    }
    out
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of a string literal with its prefix; `after_name`: a letter before it is the end of a longer name.
fn string_len(rest: &str, after_name: bool) -> Option<usize> {
    let prefix = if after_name { 0 } else { rest.find(|c| !"bcr".contains(c)).unwrap_or(0) };
    let quoted = &rest[prefix..];
    if rest[..prefix].ends_with('r') {
        let hashes = quoted.find(|c| c != '#')?;
        let body = quoted[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let len = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + hashes + 1 + len);
    }
    let body = quoted.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix + 1 + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The length of a character literal, which a lifetime is not.
fn char_len(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        // The first character after the backslash may itself be a quote.
        let skipped = escape.chars().next()?.len_utf8();
        return escape[skipped..].find('\'').map(|at| 2 + skipped + at + 1);
    }
    let c = body.chars().next()?;
    body[c.len_utf8()..].starts_with('\'').then_some(1 + c.len_utf8() + 1)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
