"""A page as shops write them."""

from __future__ import annotations

import pytest

LEAD = (
    "The Harrow dining table seats eight people around a solid oak top that was cut from a single plank. "
    "Its trestle legs are joined by hand, and the wood is finished with a plant oil that deepens with the years. "
    "We build each table to order in our own workshop, and it arrives in two parts that join without tools."
)
PRODUCT_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<title>Harrow dining table | Nook &amp; Oak</title>
<meta name="description" content="Buy the Harrow dining table online.">
<meta property="og:title" content="Harrow dining table – order now">
<meta property="og:site_name" content="Nook &amp; Oak">
<meta property="og:description" content="A dining table for eight in solid oak.">
<script type="application/ld+json">
{{"@context": "https://schema.org", "@graph": [
  {{"@type": "BreadcrumbList", "itemListElement": [{{"@type": "ListItem", "name": "Tables"}}]}},
  {{"@type": ["Product", "Thing"], "name": "Harrow trestle table", "description": "Trestle table in oiled oak, 240 cm.",
    "brand": {{"@type": "Brand", "name": "Nook"}}, "color": "natural oak", "material": "oak",
    "offers": [{{"@type": "Offer", "price": 1290.00, "priceCurrency": "EUR"}}],
    "isRelatedTo": {{"@type": "Product", "name": "Harrow bench"}} }}
]}}
</script></head>
<body><nav><a href="/">Home</a> <a href="/tables">Tables</a></nav>
<main><article><h1>Harrow</h1>{"".join(f"<p>{LEAD}</p>" for _ in range(1))}<p>Care: wipe with a dry cloth and oil it once
a year; do not set hot pans on the wood, for they leave rings that only sanding removes.</p></article></main>
<footer>Cookies. Imprint. All rights reserved.</footer></body></html>"""


@pytest.fixture
def product_page() -> str:
    return PRODUCT_PAGE
