//! The page of results in a real browser: it opens in headless Chromium and every plot is drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes what the browser made of every plot into the document, for `--dump-dom`: its name, and
/// the least of width, height, and number of shapes in the plot's own ink.
const PROBE: &str = "<script>
const seen = [...document.querySelectorAll('figure')].map(figure => {
    const svg = figure.querySelector('svg');
    if (!svg) return ':0';
    const box = svg.getBoundingClientRect();
    const shapes = svg.querySelectorAll('polyline, path, circle, rect').length;
    return svg.getAttribute('aria-label') + ':' + Math.min(box.width, box.height, shapes);
});
const result = document.createElement('output');
result.textContent = 'drawn=' + seen.join(',') + ';';
document.body.append(result);
</script>";

/// Samples as the scripts leave them, of two subjects on two allocators.
const OTHERS: [(&str, &str, &str); 5] = [
    ("programs-c", "program,allocator,round,cpu_s,wall_s,peak_mib", "0,1.5,1.5,30"),
    ("threads", "pattern,allocator,round,mops,peak_mib,final_mib", "0,20,30,10"),
    ("micro", "pattern,allocator,round,allocation_ns,free_ns,total_ns,peak_mib", "0,3,4,7,30"),
    ("startup", "program,allocator,round,cpu_us,peak_kib", "0,500,1500"),
    ("instructions", "operation,allocator,calls,instructions", "1000,16"),
];

/// Samples of which there are tables alone, which the scripts write themselves.
const TABLES: [(&str, &str, &str); 3] = [
    ("instances", "measure,round,ns", "destroy,0,99"),
    ("runs", "runs,length,round,ns", "1000,long,0,99"),
    ("secure", "subject,allocator,round,ns,cpu_s,peak_mib", "pair 64,guard,0,4,,"),
];

#[test]
fn page_shows_its_plots() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    write_everything(&out);
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    for row in
        ["Commit", "Processor", "Kernel", "C compiler", "C flags", "Rust", "Crates", "Packages"]
    {
        let start = format!("<tr><th>{row}</th><td>");
        let value = page.split(&start).nth(1).and_then(|rest| rest.split('<').next());
        assert!(value.is_some_and(|value| !value.trim().is_empty()), "nothing about: {row}");
    }
    for (name, ..) in TABLES {
        assert!(page.contains(&format!("the table of {name}")), "{name} is not on the page");
    }
    columns_are_documented(&out);
    histogram_has_every_operation(&out);
    let expected = plots(&out);
    // Mean by size of blocks filled and not; two figures of four comparisons, one of another.
    for name in [
        "founding-1-mean-filled-2",
        "memory-waves",
        "memory-waves-time",
        "latency-free-5",
        "latency-distribution-free-0004096",
        "threads-mops",
    ] {
        assert!(expected.iter().any(|plot| plot == name), "{name} was not drawn: {expected:?}");
    }

    // Ubuntu has no package of it.
    let Some(drawn) = in_browser(&out, &page) else {
        eprintln!("chromium is not installed: the page was written, not opened");
        return;
    };
    assert_eq!(flaws(&drawn, &expected), [""; 0]);

    // The eye itself: a picture that is missing, and one that is empty.
    let figure = page.find("<figure>").unwrap();
    let end = figure + page[figure..].find("</figure>").unwrap() + "</figure>".len();
    let without = format!("{}{}", &page[..figure], &page[end..]);
    let drawn = in_browser(&out, &without).unwrap();
    assert_eq!(flaws(&drawn, &expected), [&expected[0]]);
    let empty = format!("<figure><svg aria-label=\"{}\"></svg></figure>", expected[0]);
    let drawn = in_browser(&out, &format!("{}{empty}{}", &page[..figure], &page[end..])).unwrap();
    assert_eq!(flaws(&drawn, &expected), [&expected[0]]);
    fs::remove_dir_all(out).unwrap();
}

/// Small runs of what measures, and what the scripts would leave.
fn write_everything(out: &Path) {
    let run = |binary: &str, arguments: &str| {
        let run =
            Command::new(binary).args(arguments.split(' ')).arg("--out").arg(out).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let few = "--allocators malloc,valloc --rounds 1";
    run(
        env!("CARGO_BIN_EXE_founding"),
        &format!("{few} --threads 1,2 --sizes 64,4096 --allocations 100 --iterations 2"),
    );
    run(env!("CARGO_BIN_EXE_latency"), &format!("{few} --operations 1000 --sizes 64,4096"));
    run(env!("CARGO_BIN_EXE_memory"), &format!("{few} --mib 4 --scenarios waves"));
    run(
        env!("CARGO_BIN_EXE_programs"),
        "--allocators system,valloc --rounds 1 --scale 1 --only json",
    );
    for (name, columns, figures) in OTHERS {
        let mut text = format!("{columns}\n");
        for row in ["one,glibc,", "one,valloc,", "two,glibc,", "two,valloc,"] {
            text += &format!("{row}{figures}\n");
        }
        fs::write(out.join(format!("{name}-samples.csv")), text).unwrap();
    }
    for (name, columns, row) in TABLES {
        fs::write(out.join(format!("{name}-samples.csv")), format!("{columns}\n{row}\n")).unwrap();
        fs::write(out.join(format!("{name}.txt")), format!("the table of {name}\n")).unwrap();
    }
    run(env!("CARGO_BIN_EXE_report"), "threads micro startup instructions programs-c");
    // Everything anew from the samples.
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let measured = ["-samples.csv", "-histogram.csv", "-run.txt"];
        let table = TABLES.iter().any(|(part, ..)| name == format!("{part}.txt"));
        if !table && !measured.iter().any(|ending| name.ends_with(ending)) {
            fs::remove_file(&path).unwrap();
        }
    }
    let report = Command::new(env!("CARGO_BIN_EXE_report")).arg("--out").arg(out).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
}

/// Every file of samples and summaries, and every column of it.
fn columns_are_documented(out: &Path) {
    let docs =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md")).unwrap();
    let documented = |word: &str| {
        docs.split(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)))
            .any(|w| w.trim_end_matches('.') == word)
    };
    let mut files = 0;
    for entry in fs::read_dir(out).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".csv") {
            continue;
        }
        files += 1;
        assert!(documented(&name), "{name} is not documented");
        let text = fs::read_to_string(out.join(&name)).unwrap();
        for column in text.lines().next().unwrap().split(',') {
            assert!(documented(column), "the column {column} of {name} is not documented");
        }
    }
    // Samples and summaries of three benchmarks and six comparisons; a histogram; other samples.
    assert_eq!(files, 22);
}

/// As many as the samples say, of every size in every process, with their median in the bin of it.
fn histogram_has_every_operation(out: &Path) {
    let rows = |name: &str, columns: [&str; 6]| -> Vec<[String; 6]> {
        let mut csv = csv::Reader::from_path(out.join(name)).unwrap();
        let header = csv.headers().unwrap().clone();
        let places = columns.map(|column| header.iter().position(|name| name == column).unwrap());
        csv.records()
            .map(|row| places.map(|place| row.as_ref().unwrap()[place].to_owned()))
            .collect()
    };
    let process = ["allocator", "size", "operation", "round"];
    let columns = |a, b| [process[0], process[1], process[2], process[3], a, b];
    let bins = rows("latency-histogram.csv", columns("low_ns", "count"));
    let samples = rows("latency-samples.csv", columns("p50", "operations"));
    assert_eq!(samples.len(), 8);
    for sample in samples {
        let mine: Vec<(f64, usize)> = bins
            .iter()
            .filter(|bin| bin[..4] == sample[..4])
            .map(|bin| (bin[4].parse().unwrap(), bin[5].parse().unwrap()))
            .collect();
        let all: usize = sample[5].parse().unwrap();
        assert_eq!(mine.iter().map(|bin| bin.1).sum::<usize>(), all);
        let median: f64 = sample[4].parse().unwrap();
        let below: usize = mine.iter().filter(|bin| bin.0 <= median).map(|bin| bin.1).sum();
        assert!(2 * below >= all, "{sample:?}: {below} of {all}");
    }
}

/// The names of the plots in the folder.
fn plots(out: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(out)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".svg").map(str::to_owned)
        })
        .collect();
    // In the order of the page, in which those of the founding benchmark come first.
    names.sort_by_key(|name| (!name.starts_with("founding"), name.clone()));
    names
}

/// The plots that cannot be seen.
fn flaws<'a>(drawn: &[(String, f64)], expected: &'a [String]) -> Vec<&'a String> {
    let seen = |name: &String| drawn.iter().any(|plot| plot.0 == *name && plot.1 >= 3.0);
    expected.iter().filter(|name| !seen(name)).collect()
}

/// What the browser has drawn of every plot; None without a browser.
fn in_browser(folder: &Path, page: &str) -> Option<Vec<(String, f64)>> {
    let probed = folder.join("probed.html");
    fs::write(&probed, page.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let run = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", probed.display()))
        .output()
        .ok()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let document = String::from_utf8_lossy(&run.stdout);
    // The script itself comes first in the document.
    let list = document.rsplit("drawn=").next().and_then(|rest| rest.split(';').next());
    let parse = |plot: &str| {
        let (name, least) = plot.split_once(':').expect("the page ran its script");
        (name.to_owned(), least.parse().expect("a number"))
    };
    Some(list.expect("the page ran its script").split(',').map(parse).collect())
}
