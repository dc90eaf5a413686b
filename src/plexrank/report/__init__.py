"""The report: one offline HTML page with the ranking, its figure and what it rests on."""
