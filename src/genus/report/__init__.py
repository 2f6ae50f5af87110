"""What people look at: pictures, tables, and one HTML file that opens offline and runs nothing foreign.

run_page(RunReport(...))           the report of one run
comparison_page(title, reports)    several models, a table for each data source
summary(scorecard)                 the same numbers in a terminal
"""
