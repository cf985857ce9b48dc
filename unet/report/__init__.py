"""One HTML file about a run or a study, made from its files: markup.py writes the elements, chart.py the curves,
pictures.py the images, run.py reads a run folder, run_page.py and study_page.py say what stands where, page.py puts it
into one file that needs nothing else (assets/: its style and its script)."""
