//! The page of results in a real browser: it opens in headless Chromium and every plot is drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes what the browser made of every plot into the document, for `--dump-dom`.
const PROBE: &str = "<script>
const seen = [...document.querySelectorAll('figure svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    const shapes = svg.querySelectorAll('polyline, path, circle, rect').length;
    return Math.min(box.width, box.height, shapes);
});
const result = document.createElement('output');
result.textContent = 'drawn:' + seen.join(',') + ':';
document.body.append(result);
</script>";

#[test]
fn page_shows_its_plots() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    let run = Command::new(env!("CARGO_BIN_EXE_founding"))
        .args(["--allocators", "malloc,valloc", "--threads", "1,2", "--sizes", "64,4096"])
        .args(["--rounds", "1", "--allocations", "100", "--iterations", "2", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let page = fs::read_to_string(out.join("index.html")).unwrap();
    let plots = page.matches("<figure>").count();
    assert!(plots > 0, "a page without plots");
    let probed = out.join("probed.html");
    fs::write(&probed, page.replace("</body>", &format!("{PROBE}</body>"))).unwrap();

    // Ubuntu has no package of it.
    let Some(document) = in_browser(&out, &probed) else {
        eprintln!("chromium is not installed: the page was written, not opened");
        return;
    };
    let drawn = document.split("drawn:").nth(2).and_then(|rest| rest.split(':').next());
    let sizes: Vec<f64> =
        drawn.expect("the page ran its script").split(',').map(|n| n.parse().unwrap()).collect();
    assert_eq!(sizes.len(), plots);
    assert!(sizes.iter().all(|&size| size >= 3.0), "a plot without shape: {sizes:?}");
    fs::remove_dir_all(out).unwrap();
}

/// The document after its scripts ran; None without a browser.
fn in_browser(folder: &Path, page: &Path) -> Option<String> {
    let run = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .output()
        .ok()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8_lossy(&run.stdout).into_owned())
}
