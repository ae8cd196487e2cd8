"""Joins the requests for a servable into batches, so that one run answers many."""
