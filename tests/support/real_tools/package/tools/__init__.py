"""The tools: one file each. A tool is served when it stands in this tuple."""

from .book_table import book_table
from .classify import classify
from .convert_csv import convert_csv
from .exchange_rate import exchange_rate
from .import_articles import import_articles
from .notes import add_note, list_notes
from .place_order import place_order
from .purge_notes import purge_notes
from .sales_report import sales_report
from .search_articles import search_articles

TOOLS = (
    add_note,
    book_table,
    classify,
    convert_csv,
    exchange_rate,
    import_articles,
    list_notes,
    place_order,
    purge_notes,
    sales_report,
    search_articles,
)
